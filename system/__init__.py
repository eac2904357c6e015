"""What the operating system can do to a program: odd files, full disks, processes that are gone. Imports none of ours."""
