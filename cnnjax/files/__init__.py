"""Bytes on disk <-> values: read within bounds and with checksums, written whole or not at all."""
