"""The build system: three locks in, one relocatable bundle out."""
