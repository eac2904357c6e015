"""The machines of a cluster: jobs that become Ray workers. Nothing runs here yet; studies run on one machine."""
