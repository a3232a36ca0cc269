"""What `dfshield doctor` checks on this machine and of the teacher."""
