# fish completion for tesseract-exporter
complete -c tesseract-exporter -f
complete -c tesseract-exporter -n __fish_use_subcommand -a health -d 'Ask a running exporter whether it serves'
complete -c tesseract-exporter -n '__fish_seen_subcommand_from health' -l url -x -d 'The exporter to ask'
complete -c tesseract-exporter -n __fish_use_subcommand -l config.file -r -F -d 'Configuration file'
complete -c tesseract-exporter -n __fish_use_subcommand -l config.check -d 'Check the configuration and exit'
complete -c tesseract-exporter -n __fish_use_subcommand -l web.listen-address -x -d 'Where to serve'
complete -c tesseract-exporter -n __fish_use_subcommand -l web.config.file -r -F -d 'TLS and users'
complete -c tesseract-exporter -n __fish_use_subcommand -l web.telemetry-path -x -d 'Path of the metrics'
complete -c tesseract-exporter -n __fish_use_subcommand -l log.level -x -a 'error warn info debug trace' -d 'Lowest severity to log'
complete -c tesseract-exporter -n __fish_use_subcommand -l log.format -x -a 'json text' -d 'Log format'
complete -c tesseract-exporter -l help -s h -d 'Print help'
complete -c tesseract-exporter -n __fish_use_subcommand -l version -s V -d 'Print version'
