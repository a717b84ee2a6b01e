"""The head's side: remote lanes in the daemon's process, and the bridge, a process in which Dask runs."""
