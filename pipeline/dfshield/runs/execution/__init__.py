"""Who does the work, and how numbers are computed: the protocol, this process, the engine."""
