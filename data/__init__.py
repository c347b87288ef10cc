"""The small sources of bundled recipes; what runs make lies beside them, ignored by git."""
