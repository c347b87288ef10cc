"""The contract with the world: one JSON a table and an exported dataset type."""
