"""What each shell runs to complete `moos`: it asks `moos completion --words`, and shows the answer.

An answer is a line per candidate: the word, a tab, a description. A word that ends in `.`, `=`, `/`
or `,`, or holds a list that is not closed, gets no space behind it, so that one goes on typing.
"""

# readline replaces only what stands behind the last `=` or `:`, so candidates lose what is before.
BASH = r"""_moos() {
  local line="${COMP_LINE:0:COMP_POINT}" word candidate head=""
  local -a words
  read -r -a words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  word="${words[${#words[@]}-1]}"
  [[ "$word" == *[=:]* ]] && head="${word%"${word##*[=:]}"}"
  COMPREPLY=()
  while IFS=$'\t' read -r candidate _; do
    [[ -n "$candidate" ]] && COMPREPLY+=("${candidate#"$head"}")
  done < <("$1" completion --words "${words[@]}" 2>/dev/null)
  (( ${#COMPREPLY[@]} == 1 )) || return
  case "$head${COMPREPLY[0]}" in *[.=/,] | *\[*[!]]) compopt -o nospace ;; esac
}
complete -F _moos moos
"""

ZSH = r"""#compdef moos
_moos() {
  local line candidate text
  local -a whole open whole_text open_text
  for line in "${(@f)$("${(Q)words[1]}" completion --words "${(@Q)words[1,CURRENT]}" 2>/dev/null)}"
  do
    candidate="${line%%$'\t'*}" text="${line#*$'\t'}"
    [[ -z "$candidate" ]] && continue
    if [[ "$candidate" == *[.=/,] || "$candidate" == *\[*[^]] ]]; then
      open+=("$candidate") open_text+=("${candidate}${text:+  -- $text}")
    else
      whole+=("$candidate") whole_text+=("${candidate}${text:+  -- $text}")
    fi
  done
  (( ${#whole} )) && compadd -l -d whole_text -a whole
  (( ${#open} )) && compadd -l -S '' -d open_text -a open
}
if [[ "$funcstack[1]" == "_moos" ]]; then _moos "$@"; else compdef _moos moos; fi
"""

FISH = r"""function __moos_complete
    set -l words (commandline -opc)
    $words[1] completion --words $words (commandline -ct | string collect --allow-empty) 2>/dev/null
end
complete -c moos -f -a '(__moos_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
