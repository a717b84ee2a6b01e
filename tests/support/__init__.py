"""Support for tests: daemons in processes of their own, stores, pictures, a browser."""
