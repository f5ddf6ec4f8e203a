"""Figures of the paper, each beside ours."""
