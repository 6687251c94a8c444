"""Rows and results -> pictures and tables.  Reads run directories only."""
