;;; gnus.el --- mail through a tunnel of pizauth  -*- lexical-binding: t -*-

;; Tested with the Gnus of Emacs 28.2 (Debian 12).
(setq gnus-select-method
      '(nnimap "work"
               (nnimap-stream shell)
               (nnimap-shell-program "pizauth tunnel work imaps://imap.example.com")))
