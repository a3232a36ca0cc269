"""The cluster: starting or joining Ray, its nodes, its capacity."""
