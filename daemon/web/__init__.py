"""The pages of `bt-daemon web`: a read-only view of one database."""
