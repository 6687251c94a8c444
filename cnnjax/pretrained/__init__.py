"""Foreign weight and word-vector files -> parameter trees."""
