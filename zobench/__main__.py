"""python -m zobench"""

from zobench.cli import main

main()
