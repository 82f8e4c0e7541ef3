"""The project's settings: Kedro's own defaults."""
