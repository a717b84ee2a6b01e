"""How results leave the program: as a table for people, or as JSON, CSV, TSV or Parquet for programs."""
