"""What concerns the process: several of them, their threads and memory, compilation, files."""
