"""The pack tool: make, check and build service packages; also the one guard through which every ZIP goes."""
