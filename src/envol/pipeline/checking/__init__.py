"""Contracts of stored tables: suggested, checked, and how the columns have changed."""
