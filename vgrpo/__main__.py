from vgrpo.commands.main import main

raise SystemExit(main())
