"""What was seen and what was concluded: schema, migrations, ledger, queries, the grammar of WHEN."""
