"""The conductor, which keeps a project up to date as time passes, and what is asked of it."""
