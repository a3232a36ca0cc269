"""How often a driver looks at what it waits for, in seconds."""

POLL_S = 1.0
"""The longest that one call of a driver waits for workers."""

CLUSTER_CHECK_S = 3.0
"""Between two looks at the nodes of the cluster."""

WAITING_NOTICE_S = 30.0
"""After which the user is told that no worker has started."""
