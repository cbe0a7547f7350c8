"""The bird's-eye grid: one scan and one depth image become (2, cells, cells) float32."""
