"""What is answered to users, operators and daemons beside the controller."""
