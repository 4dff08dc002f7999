"""Redis behind the control plane: connections, names of keys, atomic steps, and one module per kind of document."""
