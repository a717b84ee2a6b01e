"""Output formats: a table for people, JSON, CSV, TSV or Parquet for programs."""
