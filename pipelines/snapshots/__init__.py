"""What a workspace's snapshots hold, what was made from them, how two differ, and what removes one."""
