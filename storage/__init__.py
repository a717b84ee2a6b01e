"""The database: schema, migrations, ledger, queries and maintenance."""
