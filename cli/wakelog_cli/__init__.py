"""The wakelog command: thin click commands over the wakelog library."""
