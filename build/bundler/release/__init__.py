"""What a release consists of: archives, evidence, and the program that checks both."""
