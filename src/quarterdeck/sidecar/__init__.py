"""The process beside every agent: its session, its tasks, its log and its metadata."""
