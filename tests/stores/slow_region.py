"""The region in which the replicas of a secret follow after a while; elsewhere they are there at once."""

SLOW_REGION, SLOW_SECONDS = "eu-north-1", 1.0
