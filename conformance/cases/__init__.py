"""One module for each part of the contract; each public function checks one promise."""
