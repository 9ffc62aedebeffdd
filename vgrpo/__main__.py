from vgrpo.cli import main

raise SystemExit(main())
