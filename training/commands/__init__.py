"""The commands build, train, evaluate and export."""
