"""Worker processes: the pool, what each does, and the one process that owns a GPU."""
