"""What the build says about the plugin. build.py writes this file anew."""

NAME = "pyfile"
# Whether the plugin computes digests. If not, the host does.
DIGESTS = True
