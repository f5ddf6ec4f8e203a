"""The CamVid study: arms, outcomes, statistics."""
