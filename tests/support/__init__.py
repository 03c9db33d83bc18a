"""What tests share: small real fakes at the edge, and the rules they hold the program to."""
