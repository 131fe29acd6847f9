import sys
from pathlib import Path

# The helper module beside this file is imported by name; importlib mode adds no path.
sys.path.insert(0, str(Path(__file__).parent))
