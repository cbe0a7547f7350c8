"""What all reports share: one self-contained page without scripts, and its plots."""
