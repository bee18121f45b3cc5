"""The stores of tests/store."""

from store.conftest import empty_database, empty_file, new_location, new_store, postgres_url

__all__ = ["empty_database", "empty_file", "new_location", "new_store", "postgres_url"]
