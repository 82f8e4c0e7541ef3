"""What the user writes: configuration, nodes, windows, graph, contracts."""
