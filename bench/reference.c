// What a careful C programmer would write: the references that `make bench` measures the grid
// against. They draw the depth channel of a camera that is pitched but neither rolled nor turned,
// with fixed-point cells (20 fractional bits), and mark what at least `least` pixels agree on.
#include <stdint.h>
#include <string.h>

struct frame {
  int height, width, cells, least;
  // Usable depths of each row in mm; a row with low > high shows no obstacle at all.
  const uint16_t *low, *high;
  // Largest depth of each column that is still inside the grid, mm.
  const uint16_t *inside;
  // Cells per mm of depth, and the cell of the camera, all times 2^20.
  const int32_t *row_step, *column_step;
  int32_t row, column;
  int32_t *counts;
  uint8_t *out;
};

static void mark(const struct frame *f) {
  for (int i = 0; i < f->cells * f->cells; i++) f->out[i] = f->counts[i] >= f->least;
}

void depth_c_scalar(const uint16_t *depth, const struct frame *f) {
  memset(f->counts, 0, sizeof(int32_t) * f->cells * f->cells);
  for (int v = 0; v < f->height; v++) {
    const uint16_t low = f->low[v], high = f->high[v];
    if (low > high) continue;
    const uint16_t *line = depth + (size_t)v * f->width;
    const int32_t row_step = f->row_step[v];
    for (int u = 0; u < f->width; u++) {
      const uint16_t d = line[u];
      if (d < low || d > high || d > f->inside[u]) continue;
      const int32_t row = (f->row - d * row_step) >> 20;
      const int32_t column = (f->column - d * f->column_step[u]) >> 20;
      f->counts[row * f->cells + column]++;
    }
  }
  mark(f);
}

uint64_t read_only(const uint16_t *depth, const struct frame *f) {
  uint64_t sum = 0;
  for (int i = 0; i < f->height * f->width; i++) sum += depth[i];
  return sum;
}

#if defined(__x86_64__)
#include <immintrin.h>

int has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

// 32 pixels at a time; blocks without an obstacle are skipped, the others compressed.
__attribute__((target("avx512f,avx512bw,avx512vl")))
void depth_c_avx512(const uint16_t *depth, const struct frame *f) {
  memset(f->counts, 0, sizeof(int32_t) * f->cells * f->cells);
  const __m512i row0 = _mm512_set1_epi32(f->row), column0 = _mm512_set1_epi32(f->column);
  const __m512i cells = _mm512_set1_epi32(f->cells);
  for (int v = 0; v < f->height; v++) {
    if (f->low[v] > f->high[v]) continue;
    const uint16_t *line = depth + (size_t)v * f->width;
    const __m512i low = _mm512_set1_epi16(f->low[v]), high = _mm512_set1_epi16(f->high[v]);
    const __m512i row_step = _mm512_set1_epi32(f->row_step[v]);
    for (int u = 0; u < f->width; u += 32) {
      const int left = f->width - u;
      const __mmask32 there = left >= 32 ? 0xffffffffu : (1u << left) - 1;
      const __m512i d = _mm512_maskz_loadu_epi16(there, line + u);
      const __m512i inside = _mm512_maskz_loadu_epi16(there, f->inside + u);
      const __mmask32 obstacle = there & _mm512_cmpge_epu16_mask(d, low) &
                                 _mm512_cmple_epu16_mask(d, high) &
                                 _mm512_cmple_epu16_mask(d, inside);
      for (int half = 0; half < 2; half++) {
        const __mmask16 use = (__mmask16)(obstacle >> (16 * half));
        if (!use) continue;
        const __m256i some =
            half ? _mm512_extracti64x4_epi64(d, 1) : _mm512_castsi512_si256(d);
        const __m512i wide = _mm512_cvtepu16_epi32(some);
        const __m512i step = _mm512_maskz_loadu_epi32(use, f->column_step + u + 16 * half);
        const __m512i row = _mm512_srai_epi32(
            _mm512_sub_epi32(row0, _mm512_mullo_epi32(wide, row_step)), 20);
        const __m512i column = _mm512_srai_epi32(
            _mm512_sub_epi32(column0, _mm512_mullo_epi32(wide, step)), 20);
        const __m512i cell = _mm512_add_epi32(_mm512_mullo_epi32(row, cells), column);
        uint32_t list[16];
        _mm512_storeu_si512(list, _mm512_maskz_compress_epi32(use, cell));
        const int count = __builtin_popcount(use);
        for (int i = 0; i < count; i++) f->counts[list[i]]++;
      }
    }
  }
  mark(f);
}
#else
int has_avx512(void) { return 0; }
void depth_c_avx512(const uint16_t *depth, const struct frame *f) {}
#endif
