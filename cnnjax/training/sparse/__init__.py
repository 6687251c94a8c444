"""Training that touches little of a large table: looked-up rows, batches by length."""
