"""Planted bugs: text patches of the real sources, the copies made of them, and the judgement that must reject every one."""
