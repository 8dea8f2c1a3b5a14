"""The accuracy campaign: from a start over candidates to final numbers beside published ones, in slices of minutes.

Without Ray and MLflow. The other campaign, that of `ablations.tuning`, is the guide's tuning plan, with gates and Ray.
"""
