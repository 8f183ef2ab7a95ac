"""Rows of tables: what a larger, related table taught is used to tell classes apart in a small one."""
