"""The stores' own tests share the database files of the contract suite."""

from tests.contract.conftest import anyio_backend, data_dir, migrated_dir

__all__ = ["anyio_backend", "data_dir", "migrated_dir"]
