;;; pizauth.el --- mail with tokens of pizauth  -*- lexical-binding: t -*-

;; Tested with Emacs 28.2 (Debian 12): smtpmail sends. Emacs asks its auth-sources for
;; the token, as if it were a password, for every connection. Gnus of 28.2 can't read
;; mail in this way: it breaks long XOAUTH2 responses into lines, which servers refuse.
;; Make a place for this file first:
;;   mkdir -p ~/.emacs.d

(require 'auth-source)
(require 'smtpmail)
(require 'subr-x)

(defun pizauth-token (account)
  "The access token of ACCOUNT, or an error that says what to do."
  (let ((errors (make-temp-file "pizauth")))
    (with-temp-buffer
      (let ((status (call-process "pizauth" nil (list t errors) nil "show" account)))
        (unless (eq status 0)
          (insert-file-contents errors))
        ;; In batch mode, an error leaves no time for it.
        (delete-file errors)
        (if (eq status 0)
            (string-trim (buffer-string))
          (user-error "%s" (string-trim (buffer-string))))))))

(cl-defun pizauth-search (&key host port &allow-other-keys)
  "What auth-source is to know of HOST and PORT."
  (list (list :host host :port port :user "you@example.com"
              :secret (lambda () (pizauth-token "work")))))

(defvar pizauth-backend
  (auth-source-backend :source "pizauth" :type 'pizauth :search-function #'pizauth-search))

(add-hook 'auth-source-backend-parser-functions
          (lambda (entry)
            (when (eq entry 'pizauth)
              (auth-source-backend-parse-parameters entry pizauth-backend))))

(setq auth-sources '(pizauth)
      user-mail-address "you@example.com")

(add-to-list 'smtpmail-auth-supported 'xoauth2)
(setq send-mail-function #'smtpmail-send-it
      message-send-mail-function #'smtpmail-send-it
      smtpmail-smtp-server "smtp.example.com"
      smtpmail-smtp-service 587
      smtpmail-smtp-user "you@example.com"
      smtpmail-stream-type 'starttls)

;;; pizauth.el ends here
