#!/usr/bin/env python3
"""Prometheus 3.14 beside a Sluicegate whose log is full, whose receiver is dead or hangs, whose configuration is
broken, whose disk is read-only, or whose log is of a newer version: it starts, scrapes and evaluates as it does
alone, and takes no more than when it sends directly."""

import beside
import programs
from scenario import main

main(lambda folder: beside.together(folder, programs.NEWEST))
